FROM scratch
ADD --chmod=700 --chown=3:4 <<EOF /f
x
EOF
# row: heredoc ADD
# peers: buildkit-now
# want: tree f f700 3:4 x\n
