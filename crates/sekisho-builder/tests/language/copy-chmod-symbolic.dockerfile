FROM scratch
COPY --chmod=u=rwX,go=rX dir /d
COPY --chmod=go-r a.txt /a
# row: COPY --chmod with symbols
# peers: buildkit-now
# want: tree d/x f644 0:0 x
# want: tree d/sub d755 0:0 
# want: tree a f600 0:0 a
