from base
env A=1
copy a.txt /x
workdir /w
cmd ["x"]
# row: lower case instructions
# peers: buildah buildkit
