FROM base
ENV A=1 \
  B=2
COPY a.txt /x
# row: CRLF
# peers: buildah buildkit
