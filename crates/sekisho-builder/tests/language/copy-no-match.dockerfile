FROM base
COPY a.txt nope* /x/
# row: COPY wildcard without a match
# peers: buildkit-now
# want: tree x/a.txt f644 0:0 a
