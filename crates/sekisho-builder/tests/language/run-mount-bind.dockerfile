FROM base AS src
RUN echo s > /s
FROM base
RUN --mount=type=bind,from=src,source=/s,target=/m cat /m > /o
RUN --mount=target=/ctx cat /ctx/a.txt > /p
# row: RUN --mount=type=bind
# peers: buildkit-now
# want: tree o f644 0:0 s\n
# want: tree p f644 0:0 a
