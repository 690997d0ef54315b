FROM base AS p
CMD ["inherited"]
FROM p
ENTRYPOINT ["x"]
# row: ENTRYPOINT resets an inherited CMD
# peers: none
# want: config Cmd -
# want: config Entrypoint x
