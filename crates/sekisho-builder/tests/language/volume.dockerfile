FROM base
VOLUME /a /b
VOLUME ["/c d"]
# row: VOLUME
# peers: buildkit-now
# want: config Volumes /a /b /c d
# want: absent c d
