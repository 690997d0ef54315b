FROM base
USER app
WORKDIR /mine/x
# row: WORKDIR belongs to root until USER
# peers: buildkit-now
# want: tree mine d755 1234:2345 
# want: tree mine/x d755 1234:2345 
