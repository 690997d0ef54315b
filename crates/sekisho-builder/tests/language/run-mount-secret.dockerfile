FROM base
RUN --mount=type=secret,id=none test ! -e /run/secrets/none && echo ok > /o
# row: RUN --mount=type=secret
# peers: buildkit-now
# want: tree o f644 0:0 ok\n
