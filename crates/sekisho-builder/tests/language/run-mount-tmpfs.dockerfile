FROM base
RUN --mount=type=tmpfs,target=/t echo x > /t/f && cp /t/f /o
# row: RUN --mount=type=tmpfs
# peers: buildkit-now
# want: tree o f644 0:0 x\n
