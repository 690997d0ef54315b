FROM base
COPY ["name with space", "/n w/"]
# row: COPY JSON form
# peers: buildah buildkit
