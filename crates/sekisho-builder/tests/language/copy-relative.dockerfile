FROM base
WORKDIR /w
COPY a.txt x
COPY a.txt ./y/
COPY b.txt .
COPY dir sub
# row: COPY to a relative path
# peers: buildah buildkit
