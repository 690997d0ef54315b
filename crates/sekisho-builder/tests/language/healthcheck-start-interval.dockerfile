FROM base
HEALTHCHECK --start-interval=2s CMD ["x"]
# row: HEALTHCHECK --start-interval
# peers: buildkit-now
# want: config Healthcheck CMD x start_interval=2000000000
