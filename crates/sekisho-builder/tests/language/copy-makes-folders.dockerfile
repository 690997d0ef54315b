FROM base
COPY --chmod=711 dir /1/x
COPY --chmod=710 --chown=5:6 a.txt /2/f
COPY --chmod=u=rwX,go= dir /3/y
COPY dir /4/
# row: COPY makes the folders on the way
# peers: buildkit-now
# want: tree 1 d711 0:0 
# want: tree 1/x d711 0:0 
# want: tree 2 d710 5:6 
# want: tree 3/y d755 0:0 
# want: tree 3/y/sub d700 0:0 
# want: tree 4 d755 0:0 
