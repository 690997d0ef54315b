FROM base
COPY --chown=app a.txt /1
COPY --chown=app:app dir /2
COPY --chown=11:22 a.txt /3/4/5
COPY --chown=0 a.txt /6
# row: COPY --chown
# peers: buildah buildkit
