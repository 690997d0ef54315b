FROM base
RUN --mount=type=cache,target=/c,mode=0700,uid=5 echo x > /c/f && stat -c %a-%u /c > /o
RUN --mount=type=cache,target=/c,mode=0700,uid=5 cat /c/f > /p
# row: RUN --mount=type=cache
# peers: buildkit-now
# want: tree o f644 0:0 700-5\n
# want: tree p f644 0:0 x\n
