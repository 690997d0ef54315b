FROM scratch
COPY . /app/
# row: COPY .
# peers: buildah buildkit
