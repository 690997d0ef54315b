FROM base
RUN mkdir -m 777 /open
USER app
RUN id -u > /open/u; id -g > /open/g
# row: RUN as USER
# peers: buildah buildkit
# want: tree open/u f644 1234:2345 1234\n
