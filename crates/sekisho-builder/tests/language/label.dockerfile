FROM base
LABEL a=1 "b c"="d e" f="multi \
 line"
LABEL a=2
# row: LABEL
# peers: buildah buildkit
