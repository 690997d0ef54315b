FROM base
COPY a.txt /etc/passwd
COPY dir /etc
# row: COPY over what is there
# peers: buildah buildkit
