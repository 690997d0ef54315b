FROM base AS s
FROM base
COPY --link a.txt /l/m/
COPY --link --from=s /bin/cat /bb
# row: COPY --link
# peers: buildkit-now
# want: tree l/m/a.txt f644 0:0 a
