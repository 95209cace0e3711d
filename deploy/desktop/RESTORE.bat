@echo off
rem Makes an empty desk what it was when a backup was made: RESTORE.bat ARCHIVE, or drop the archive on this file.
setlocal
set "archive=%~f1"
call "%~dp0docker.bat" || goto failed

if "%~1"=="" goto which
if not exist "%archive%" goto which
docker compose run --rm -T restore - <"%archive%"
if errorlevel 1 (
    echo.
    echo Nothing was restored: see above. docs\backup.md says how to have an empty desk.
    goto failed
)
echo.
echo Restored. START continues it.
pause
exit /b 0

:which
echo Which backup? RESTORE.bat deploy\desktop\backups\desk-....tar

:failed
pause
exit /b 1
