FROM base
RUN cat <<A > /a && cat <<'B' > /b
$HOME
A
$HOME
B
# row: heredoc RUN to a program
# peers: buildkit-now
# want: tree a f644 0:0 /root\n
# want: tree b f644 0:0 $HOME\n
