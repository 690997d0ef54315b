FROM base
RUN --network=none n=0; while read a b; do n=$((n+1)); done < /proc/net/dev; echo $n > /n
# row: RUN --network
# peers: buildkit-now
# want: tree n f644 0:0 3\n
