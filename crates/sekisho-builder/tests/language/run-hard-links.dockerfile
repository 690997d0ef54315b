FROM base
RUN echo x > /h1 && ln /h1 /h2
# row: hard links
# peers: buildah buildkit
