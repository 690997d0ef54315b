FROM base AS p
ONBUILD COPY <<EOF /f
h
EOF
FROM p
# row: ONBUILD with a heredoc
# peers: buildkit-now
# want: tree f f644 0:0 h\n
