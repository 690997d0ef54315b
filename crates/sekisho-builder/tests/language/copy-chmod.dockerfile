FROM base
COPY --chmod=640 a.txt /1
COPY --chmod=0750 exec.sh /2
# row: COPY --chmod
# peers: buildah buildkit
