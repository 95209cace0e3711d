@echo off
rem Makes a backup now and copies it to the folder backups beside this file.
setlocal
call "%~dp0docker.bat" || goto failed

set "name="
for /f "usebackq delims=" %%n in (`docker compose exec -T backup python -m services.backup now`) do set "name=%%n"
if not defined name (
    echo No backup was made: see above. If the desk does not run, START it first.
    goto failed
)
if not exist "deploy\desktop\backups" mkdir "deploy\desktop\backups"
docker compose cp "backup:/backups/%name%" "deploy/desktop/backups/%name%"
if errorlevel 1 (
    echo The backup was made, but could not be copied: see above.
    goto failed
)
echo.
echo Copied to deploy\desktop\backups\%name%. Keep it on another machine as well.
pause
exit /b 0

:failed
pause
exit /b 1
