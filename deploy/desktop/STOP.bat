@echo off
rem Stops the desk and keeps everything.
setlocal
call "%~dp0docker.bat" || goto failed

echo Stopping the desk. This does not stop a deployment: the next START continues it. An open position stays open
echo meanwhile, and nobody manages it. To end trading press Stop in the console first,
echo or: docker compose exec api desk stop
docker compose down
if errorlevel 1 (
    echo The desk could not be stopped: see above.
    goto failed
)
echo.
echo The desk is stopped. Nothing was lost.
pause
exit /b 0

:failed
pause
exit /b 1
