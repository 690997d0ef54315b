FROM base
EXPOSE 80
EXPOSE 80/udp 8080
# row: EXPOSE adds
# peers: buildkit-now
# want: config ExposedPorts 80/tcp 80/udp 8080/tcp
