FROM base
VOLUME /etc
VOLUME ["/bin", "/etc/sub"]
# row: VOLUME of a folder that is there
# peers: buildah buildkit
