FROM base AS p
CMD ["inherited"]
FROM p
ENTRYPOINT ["x"]
# row: ENTRYPOINT resets an inherited CMD
# peers: buildkit-now
# want: config Cmd -
# want: config Entrypoint x
