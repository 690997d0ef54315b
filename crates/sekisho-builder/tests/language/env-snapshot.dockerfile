FROM base
ENV A=1
ENV A=2 B=$A
ENV C=$A
# row: one snapshot of variables
# peers: buildah buildkit
