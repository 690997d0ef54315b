FROM base
ENV D=/d
VOLUME $D/v ${D}
# row: VOLUME expands
# peers: none
# want: config Volumes /d /d/v
