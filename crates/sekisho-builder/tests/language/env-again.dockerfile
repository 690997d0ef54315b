FROM base
ENV A=1 B=2
ENV A=3
RUN echo $A$B > /o
# row: ENV replaces
# peers: buildah buildkit
