FROM base
RUN rm -r /etc/sub /etc/group && mkdir /etc/sub && echo new > /etc/sub/n
# row: RUN removes
# peers: buildah buildkit
