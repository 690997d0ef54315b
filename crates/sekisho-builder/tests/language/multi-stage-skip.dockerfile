FROM base AS never
RUN exit 1
FROM base
RUN echo x > /x
# row: stages that are not needed
# peers: buildah buildkit
