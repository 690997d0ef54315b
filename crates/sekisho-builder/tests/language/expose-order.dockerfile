FROM base
ENV P=81
EXPOSE 80 $P/udp 90-92/tcp 100-101 80
# row: EXPOSE in the history
# peers: buildkit
# want: config ExposedPorts 100/tcp 101/tcp 80/tcp 81/udp 90/tcp 91/tcp 92/tcp
