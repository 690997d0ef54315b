FROM base
RUN <<EOF
#!/bin/sh
echo "$0" > /0
EOF
# row: heredoc RUN script
# peers: buildkit-now
# want: tree 0 f644 0:0 /dev/pipes/EOF\n
