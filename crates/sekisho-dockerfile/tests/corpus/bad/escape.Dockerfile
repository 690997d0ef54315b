# escape=/
# mistake: 1:1 escape character `/` is not allowed
FROM debian
