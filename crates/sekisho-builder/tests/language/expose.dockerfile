FROM base
EXPOSE 80 443/tcp 53/udp
# row: EXPOSE
# peers: buildah buildkit
