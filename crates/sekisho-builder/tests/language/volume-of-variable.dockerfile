FROM base
ENV D=/d
VOLUME $D/v ${D}
# row: VOLUME expands
# peers: buildkit-now
# want: config Volumes /d /d/v
