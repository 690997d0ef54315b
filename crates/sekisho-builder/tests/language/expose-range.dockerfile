FROM base
EXPOSE 8000-8003/udp 9000
# row: EXPOSE ranges
# peers: buildkit-now
# want: config ExposedPorts 8000/udp 8001/udp 8002/udp 8003/udp 9000/tcp
