@echo off
rem Gives the running desk new secrets, as deploy\rotate.sh does. After an interruption: ROTATE.bat --continue
setlocal
call "%~dp0docker.bat" || goto failed

if "%~1"=="--continue" goto begun
docker compose run --rm --no-deps -T secrets python -m services.setup rotate begin || goto failed
:begun
call :reread || goto failed
docker compose run --rm --no-deps -T prepare || goto failed
for %%s in (recorder risk trader api grafana backup) do call :renew %%s || goto failed
docker compose run --rm --no-deps -T secrets python -m services.setup rotate end || goto failed
call :reread || goto failed
echo Done. Everybody logs in again, with a new token: docker compose exec api desk token
pause
exit /b 0

:reread
for /f "usebackq delims=" %%n in (`docker compose ps --services --status running ^| findstr /b nats`) do (
    docker compose kill -s SIGHUP %%n || exit /b 1
)
exit /b 0

:renew
set "runs="
for /f "usebackq delims=" %%i in (`docker compose ps -q --status running %1 2^>nul`) do set "runs=%%i"
if not defined runs exit /b 0
echo restarting %1
docker compose restart -t 20 %1 || exit /b 1
docker compose up -d --wait --wait-timeout 120 --no-deps --no-recreate %1 || exit /b 1
exit /b 0

:failed
echo.
echo Not finished: see above. Once begun it goes on with ROTATE.bat --continue
pause
exit /b 1
