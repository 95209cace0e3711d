@echo off
rem Called by the scripts beside it: goes to the desk's folder and makes sure that Docker is there and runs.
cd /d "%~dp0..\.." || exit /b 1
where docker >nul 2>nul
if errorlevel 1 (
    echo Docker is not installed. Get Docker Desktop from https://docs.docker.com/desktop/setup/install/windows-install/,
    echo start it, and try again.
    exit /b 1
)
docker compose version >nul 2>nul
if errorlevel 1 (
    echo Docker is here, but not its part "compose". Update Docker Desktop and try again.
    exit /b 1
)
docker info >nul 2>nul
if errorlevel 1 (
    echo Docker does not answer. Start Docker Desktop, wait until it says that it runs, and try again.
    exit /b 1
)
exit /b 0
