FROM base
USER 1234:2345
RUN id -u > /tmp/x || exit 1
USER 0
# row: USER by number
# peers: buildah buildkit
