FROM scratch
COPY a.txt <<one <<two /d/
1
one
2
two
# row: heredoc COPY several
# peers: buildkit-now
# want: tree d/one f644 0:0 1\n
# want: tree d/two f644 0:0 2\n
# want: tree d/a.txt f644 0:0 a
