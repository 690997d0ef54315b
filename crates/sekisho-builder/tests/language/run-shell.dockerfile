FROM base
RUN echo a > /a && mkdir -p /d/e && ln -s a /l && chmod 600 /a
# row: RUN shell form
# peers: buildah buildkit
