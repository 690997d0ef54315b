FROM scratch
COPY --parents deep/a/b/c.txt dir/x /p/
COPY --parents deep/./a/*/c.txt /q/
# row: COPY --parents
# peers: buildkit-now
# want: tree p/deep/a/b/c.txt f644 0:0 c
# want: tree p/dir/x f644 0:0 x
# want: tree q/a/b/c.txt f644 0:0 c
