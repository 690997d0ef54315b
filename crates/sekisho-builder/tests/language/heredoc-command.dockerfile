FROM base
RUN <<EOF cat > /1
one $HOME
EOF
RUN <<"EOF" cat > /2 && cat /2 > /3
two $HOME
EOF
# row: heredocs: a command behind the only one
# peers: buildkit-now
# want: tree 1 f644 0:0 one /root\n
# want: tree 2 f644 0:0 two $HOME\n
# want: tree 3 f644 0:0 two $HOME\n
