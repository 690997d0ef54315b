FROM base
RUN <<EOF
echo one > /1
echo $HOME-x > /2
EOF
# row: heredoc RUN
# peers: buildkit-now
# want: tree 1 f644 0:0 one\n
# want: tree 2 f644 0:0 /root-x\n
