@echo off
rem Starts the desk, waits until it is healthy, and opens the console.
setlocal
call "%~dp0docker.bat" || goto failed

echo Starting the desk. The first start builds it, which takes some minutes.
docker compose up -d --wait %*
if errorlevel 1 (
    echo.
    echo The desk is not healthy. "docker compose ps" shows which part, "docker compose logs PART" why.
    goto failed
)
set "url="
for /f "usebackq delims=" %%u in (`docker compose exec -T proxy printenv DESK_URL`) do set "url=%%u"
if not defined url (
    echo The proxy does not run.
    goto failed
)
echo.
echo The desk runs: %url%
echo To log in you need the token. This shows it: docker compose exec api desk token
if not defined DESK_NO_BROWSER start "" "%url%"
pause
exit /b 0

:failed
pause
exit /b 1
