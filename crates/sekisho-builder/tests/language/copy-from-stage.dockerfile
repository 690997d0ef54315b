FROM base AS s
RUN mkdir -p /o/p && echo 1 > /o/p/f && chown -R app /o && chmod 700 /o
FROM scratch
COPY --from=s /o /o
COPY --from=0 /o/p/f /g
# row: COPY --from
# peers: buildkit-now
# want: tree o d755 0:0 
# want: tree o/p/f f644 1234:0 1\n
# want: tree g f644 1234:0 1\n
