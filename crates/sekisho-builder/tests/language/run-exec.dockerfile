FROM base
RUN ["/bin/sh", "-c", "echo $HOME > /h"]
# row: RUN exec form
# peers: buildah buildkit
