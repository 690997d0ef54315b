FROM base
RUN mkdir /real && ln -s /real /lnk
COPY a.txt /lnk/
COPY dir /lnk/sub/
# row: COPY through a link of the image
# peers: buildah buildkit
