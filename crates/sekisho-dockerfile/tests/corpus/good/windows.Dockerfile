# escape=`
# stages: -
FROM mcr.example/windows/servercore:ltsc2025
SHELL ["powershell", "-Command"]
RUN New-Item -Path C:\app `
      -ItemType Directory
COPY app.exe C:\app\
WORKDIR C:\app
CMD ["C:\\app\\app.exe"]
